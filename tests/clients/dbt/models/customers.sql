select id, name, credit from `acme-prod`.`app`.`customers`
