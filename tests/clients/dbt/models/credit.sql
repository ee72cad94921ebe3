select grade, count(*) as customers
from (select if(coalesce(credit, 0) > 100, 'high', 'low') as grade from {{ ref("customers") }}) as graded
group by grade
